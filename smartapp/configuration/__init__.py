"""What the app is told by those who run it: settings, issuers file, site file, handing over, fees, keys."""
