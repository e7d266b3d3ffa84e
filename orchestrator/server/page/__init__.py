"""The page that a browser gets at ``/``, and the door for documents."""
