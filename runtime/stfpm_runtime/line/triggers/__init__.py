"""What asks for a verdict: every frame, an interval, HTTP, MQTT, a GPIO edge."""
