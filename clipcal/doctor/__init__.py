"""This machine and its Python -> what a bug report needs, and whether what clipcal does works here."""
