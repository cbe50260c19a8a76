"""The doors that calls come by, one file a carrier."""
