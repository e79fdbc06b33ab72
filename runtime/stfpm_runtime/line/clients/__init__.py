"""Connections to brokers and PLCs, which outputs, triggers and recipes share."""
