"""Objects: the files runs save and read, behind signed addresses."""
