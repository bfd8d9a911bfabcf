"""Names of the files by which a folder says what it was made of, and that it is whole."""

# Written last: a folder that holds it holds all that it is to hold.
COMPLETE = "complete.json"
# Digests of what the content was made of: with the same ones it need not be made again.
IDENTITY = "identity.json"
