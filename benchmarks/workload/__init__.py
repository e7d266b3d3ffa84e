"""What is asked, by whom and when. Pure."""
