"""`dpl demo`: a web page with the predictions of zero-shot and of a tuned model for images that the user drops on it."""
