"""An EHR in a box, for demos and tests: SMART authorization server, FHIR R4 store, synthetic patients.

An island: nothing else of this project is imported here, and its scope, date and token code is its own on
purpose, so that client and server check each other. It serves loopback addresses only.
"""

from launch.sandbox.app import create_sandbox
from launch.sandbox.config import Client, ClientType, ConfigurationError, SandboxConfig
from launch.sandbox.patients import Story, export, stories
from launch.sandbox.quirks import Quirks
from launch.sandbox.server import RunningSandbox, serve_sandbox

__all__ = [
    "Client",
    "ClientType",
    "ConfigurationError",
    "Quirks",
    "RunningSandbox",
    "SandboxConfig",
    "Story",
    "create_sandbox",
    "export",
    "serve_sandbox",
    "stories",
]
