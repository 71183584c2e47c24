"""A synthetic audio-visual corpus of talking faces whose emotional regions, in voice and face, are known in seconds."""
