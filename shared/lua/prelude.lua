-- What every script of the ledger shares. Keys are built here, so one Redis (not a cluster) holds the ledger.
--   lookalike:job:<id>           hash: collection, state, total, accepted, unnamed (items), indexed, unchanged, failed,
--                                code:<c>, times; of an import also source, position, parked; where it is synchronised
--                                also sync, named (ids that stand in :ids), newer_feed (the job that came after it),
--                                gone (images), absent, absent_share, removed, sync_refused; of each errand holder:<line> (a token),
--                                tries:<line> and outages:<line>
--   lookalike:job:<id>:chunks    hash: number -> "<items>:<packed body>"; a chunk is pending while it stands here
--   lookalike:job:<id>:leases    hash: token:<n>, until:<n> (ms), attempts:<n>, outages:<n>; fetches:<n> where its items
--                                were fetched before; origin:<n> of a piece or of what was put off: the chunk that it was;
--                                bytes:<n> parked for its items by an import, and uploads:<n>, 64 letters of each
--   lookalike:job:<id>:ids       string: 8 bytes of each id that was named since the job began, while it is the newest sync
--   lookalike:job:<id>:failures  list: "F<packed rows>" of a commit, "C<packed body>" of a cancelled chunk
--   lookalike:due                sorted set: "<job>/<n>" -> ms when it is sent again; it may still wait in the queue
--   lookalike:again              sorted set: the same of what is in no queue: held (the end of its lease), given back, put off
--   lookalike:jobs               sorted set: job -> microseconds of its creation
--   lookalike:accepting          sorted set: job whose body is being read -> ms of its newest chunk
--   lookalike:imports            sorted set: import -> ms when a worker may take it: to read it, or to clear up after it
--   lookalike:syncs              sorted set: job whose items have all ended -> ms when a worker may take it to compare
--   lookalike:syncing:<name>     string: the newest job by which this collection is being synchronised, until it ends
--   lookalike:removing:<name>    string: 8 bytes of each id that a sync removes at this moment; it expires with the lease
--   lookalike:pending            items of all jobs that have not ended
--   lookalike:upload:<sha256>    hash: data, references (shared/uploads.py)
local DUE = 'lookalike:due'
local AGAIN = 'lookalike:again'
local ACCEPTING = 'lookalike:accepting'
local PENDING = 'lookalike:pending'
local IMPORTS = 'lookalike:imports'
local SYNCS = 'lookalike:syncs'
local MOST_OUTAGES = 200
local OF_A_CHUNK = {'token:', 'until:', 'attempts:', 'outages:', 'fetches:', 'origin:', 'bytes:', 'uploads:'}

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function key(job, part)
  if part then return 'lookalike:job:' .. job .. ':' .. part end
  return 'lookalike:job:' .. job
end

local function number_of(job, field)
  return tonumber(redis.call('HGET', key(job), field) or '0')
end

local function is_import(job)
  return redis.call('HEXISTS', key(job), 'source') == 1
end

local function syncing_key(job)
  return 'lookalike:syncing:' .. (redis.call('HGET', key(job), 'collection') or '')
end

local function line_key(line)
  return 'lookalike:' .. line
end

-- Whose token stands for the job's errand of this line, imports or syncs; '' where it has none.
local function holder_of(job, line)
  return redis.call('HGET', key(job), 'holder:' .. line) or ''
end

local function lease_is_live(job, n, now)
  local till = redis.call('HGET', key(job, 'leases'), 'until:' .. n)
  return till and tonumber(till) > now
end

-- How many items a chunk's body holds, and the packed body.
local function parts_of(body)
  local colon = string.find(body, ':', 1, true)
  return tonumber(string.sub(body, 1, colon - 1)), string.sub(body, colon + 1)
end

-- A new chunk of the job, in line to be sent (again) at `due`; returns its number.
local function add_chunk(job, items, packed, uploads, line, due)
  local n = redis.call('HINCRBY', key(job), 'chunks', 1)
  redis.call('HSET', key(job, 'chunks'), n, items .. ':' .. packed)
  if uploads ~= '' and is_import(job) then redis.call('HSET', key(job, 'leases'), 'uploads:' .. n, uploads) end
  redis.call('ZADD', line, due, job .. '/' .. n)
  return n
end

-- So many bytes are parked for the chunk's items.
local function park(job, n, bytes)
  if tonumber(bytes) == 0 then return end
  redis.call('HSET', key(job, 'leases'), 'bytes:' .. n, bytes)
  redis.call('HINCRBY', key(job), 'parked', bytes)
end

-- Each of these uploads is needed once less, and goes with its last reference.
local function let_go(uploads)
  for sha256 in string.gmatch(uploads, string.rep('%x', 64)) do
    local upload = 'lookalike:upload:' .. sha256
    if redis.call('EXISTS', upload) == 1 and redis.call('HINCRBY', upload, 'references', -1) <= 0 then
      redis.call('DEL', upload)
    end
  end
end

-- The chunk has ended: nothing of it stays but what it counted.
local function forget_chunk(job, n)
  local bytes = redis.call('HGET', key(job, 'leases'), 'bytes:' .. n)
  if bytes then redis.call('HINCRBY', key(job), 'parked', -tonumber(bytes)) end
  redis.call('HDEL', key(job, 'chunks'), n)
  for _, field in ipairs(OF_A_CHUNK) do redis.call('HDEL', key(job, 'leases'), field .. n) end
  redis.call('ZREM', DUE, job .. '/' .. n)
  redis.call('ZREM', AGAIN, job .. '/' .. n)
end

-- The job is done once its total is known, every item has ended and what it shall remove is removed. From then on its
-- time to be read runs.
local function finish_if_ended(job, now, ttl)
  local state = redis.call('HGET', key(job), 'state')
  if state == 'accepting' or redis.call('HLEN', key(job, 'chunks')) > 0 then return end
  if state ~= 'cancelled' then
    if redis.call('HEXISTS', key(job), 'sync') == 1 and redis.call('HEXISTS', key(job), 'removed') == 0 then
      redis.call('HSET', key(job), 'state', 'running')
      redis.call('ZADD', SYNCS, 'NX', now, job)
      return
    end
    redis.call('HSET', key(job), 'state', 'done')
  end
  redis.call('HSETNX', key(job), 'finished_at', now)
  if redis.call('GET', syncing_key(job)) == job then redis.call('DEL', syncing_key(job)) end
  redis.call('DEL', key(job, 'ids'))
  for _, part in ipairs({false, 'failures', 'leases'}) do
    redis.call('EXPIRE', key(job, part), ttl)
  end
end

-- A chunk of a cancelled job ends here: its items are failures of code `cancelled`, and its body becomes their rows.
-- What an import parked for them goes: its source can be read again.
local function cancel_chunk(job, n)
  local items, packed = parts_of(redis.call('HGET', key(job, 'chunks'), n))
  redis.call('RPUSH', key(job, 'failures'), 'C' .. packed)
  redis.call('HINCRBY', key(job), 'failed', items)
  redis.call('HINCRBY', key(job), 'code:cancelled', items)
  redis.call('DECRBY', PENDING, items)
  let_go(redis.call('HGET', key(job, 'leases'), 'uploads:' .. n) or '')
  forget_chunk(job, n)
end
