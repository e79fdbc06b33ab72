"""`stfpm-inspect` on files: pictures and videos in, one verdict for each frame out."""
