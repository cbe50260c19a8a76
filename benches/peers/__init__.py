"""Other servers of the field under the calls that FastAgent is measured with."""
