"""The pages and pictures of `dpl explain`."""
