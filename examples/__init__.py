"""Small apps that show how a device is used."""
