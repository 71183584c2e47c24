"""The report: figures and one page that plays the recording under its curves."""
