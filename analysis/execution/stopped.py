"""What is said when a pipeline ends before its work does. Apart, since it may have to be said before any import."""

STOPPED = "Stopped. What is finished stays; the same command continues from there."
