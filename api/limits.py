"""Every limit on what a client may send that is not a setting. The larger ones are: shared/settings.py.

Those of one item, which workers know too, stand in shared/items.py.
"""

from __future__ import annotations

import re

from shared.items import MAX_PAYLOAD_DEPTH as MAX_PAYLOAD_DEPTH
from shared.items import MAX_URL_LENGTH as MAX_URL_LENGTH

COLLECTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
COLLECTION_KEY = re.compile(
    rf"{COLLECTION_NAME.pattern}(@[1-9][0-9]{{0,8}})?"
)  # `shop`, or one version, `shop@2`
JOB_ID = re.compile(r"job_[0-9a-f]{20}")

MAX_JSON_BYTES = 4 * 2**20  # a body, or a multipart part, that is read whole
MAX_VECTOR_LENGTH = 65_536
MAX_TEXT_LENGTH = 1000  # characters, of a search's text and of all texts in a filter
MAX_QUERY_PICTURES = 20  # uploaded with one search, or named in `like`, or in `unlike`
MAX_QUERIES = 100  # in one batch
MAX_HITS = 10_000  # of one request: of all groups, of all queries
MAX_DEPTH = 5000  # of `offset` and `limit` together, where all before the page must be looked at
MAX_PAYLOAD_FIELDS = 1000  # named in `with_payload`
MAX_INDEXES = 256  # named in one PUT of a collection
MAX_MODEL_LENGTH = 512
MAX_FIELD_LENGTH = 256  # characters of a payload field's name in a facet or an index

MAX_FILTER_BYTES = 64 * 2**10
MAX_FILTER_CONDITIONS = 256
MAX_FILTER_FIELDS = 32  # different ones; each may become a payload index
MAX_FILTER_DEPTH = 8  # filters inside each other
MAX_FILTER_LIST = 1000

MAX_VERSION = 999_999_999
SAMPLE = 100  # images by which two versions are compared
MAX_SAMPLE = 500
PAGE = 50
MAX_PAGE = 1000
FACET_VALUES = 20
MAX_CURSOR_LENGTH = 1024
MAX_WAIT_SECONDS = 30
MAX_REQUEST_ID_LENGTH = 128
SPARE_PARTS = 16  # form parts beside the images of an upload
MAX_HEAD_BYTES = 64 * 2**10  # of a request: its line and headers
LEAST_RATE = 1024  # bytes a second that a client must send or read
LINGER_SECONDS = 2.0  # that a refused body is read on, so that its sender sees why
LINGER_BYTES = 1 * 2**30  # and for how much of it

# Characters of payload after which a chunk is full.
HEAVY_CHUNK = 4 * 2**20
