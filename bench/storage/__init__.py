"""`make bench-storage`: what each store does per CPU-second of the pod, and whether it slows down as it grows.

shape      the data set: channels of skewed sizes, their members, and any number of events in the order of time
store      a store that is measured: data sets kept in the cache, copies of them, and whose CPU is whose
sqlite     the three of them
postgres
mongo
calls      the calls of the storage ports that are measured
timing     windows of calls and of appends, and what they took
explain    the plans of what these calls really send: by index, and no sort
sqlplans   how plans are got from SQLite and PostgreSQL
mongoplans the same of MongoDB
figures    targets, the tables, and the results' keys
"""

from __future__ import annotations

import sys
from pathlib import Path

# The servers are those of the tests.
sys.path.append(str(Path(__file__).parents[2] / "tests"))
