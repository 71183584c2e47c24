"""One clip: a media file becomes arrays, the voice as samples and the face as a track."""
