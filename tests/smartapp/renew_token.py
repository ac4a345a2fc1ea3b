"""Asks for a session's access token from several threads, the present one having been refused."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from serve_app import settings_of

from smartapp import create_app

THREADS = 4

session_id, refused = sys.argv[2], sys.argv[3]
keeper = create_app(settings_of(json.loads(sys.argv[1]))).extensions["smartapp"].keeper
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(THREADS) as pool:
    tokens = list(pool.map(lambda _: keeper.access_token(session_id, rejected=refused), range(THREADS)))
print(json.dumps(tokens), flush=True)
