"""How well the native ears hear: labelled telephone sound, and reports that measure detectors on it."""
