"""The demo: a real server and real devices in processes of their own play an editing history, through crashes."""
