"""An RL swarm: small language models that answer, critique, revise and train together, with no server of their own."""

__version__ = "0.1.0"

PROTOCOL = 3
"""Version of everything that travels between peers. Peers of another version are told so and not talked to."""
