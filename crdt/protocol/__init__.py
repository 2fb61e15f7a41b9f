"""The wire: frames as Python values, their msgpack encoding, and the codes of errors and closes."""
