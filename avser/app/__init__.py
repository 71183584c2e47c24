"""The web page of `avser serve`: drop a video, see the emotion, the timeline and the report."""
