"""From an encoded file to grey levels, the same at build time and on the device."""
