"""The page that a browser gets at ``/``, the operator's at ``/ops``, and the door for documents."""
