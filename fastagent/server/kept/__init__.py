"""What is kept of calls: journals, stored sessions, and the calls that go on."""
