-- ARGV: job, chunk, ttl, indexed, unchanged, failed, packed failure rows, uploads that nobody needs, uploads that a retry
-- needs, how many groups of items are put off, of each {items, packed body, uploads, ms until they are fetched again, how
-- often they were fetched}, then code, count, code, count …
-- The first commit of a chunk moves the counters and keeps its failures; a second finds no chunk and is a no-op.
-- Each group that is put off becomes a chunk of its own, in the same step. An import keeps no uploads for a retry: they
-- may be more than Redis has room for, and its source can be read again.
local job, n, now = ARGV[1], ARGV[2], now_ms()
local codes = 11 + 5 * ARGV[10]
if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 then return 0 end
redis.call('HINCRBY', key(job), 'indexed', ARGV[4])
redis.call('HINCRBY', key(job), 'unchanged', ARGV[5])
redis.call('HINCRBY', key(job), 'failed', ARGV[6])
redis.call('DECRBY', PENDING, ARGV[4] + ARGV[5] + ARGV[6])
for i = codes, #ARGV, 2 do redis.call('HINCRBY', key(job), 'code:' .. ARGV[i], ARGV[i + 1]) end
if ARGV[7] ~= '' then redis.call('RPUSH', key(job, 'failures'), 'F' .. ARGV[7]) end
let_go(is_import(job) and ARGV[8] .. ARGV[9] or ARGV[8])
local origin = redis.call('HGET', key(job, 'leases'), 'origin:' .. n) or n
forget_chunk(job, n)
for i = 11, codes - 1, 5 do
  local later = add_chunk(job, ARGV[i], ARGV[i + 1], ARGV[i + 2], AGAIN, now + ARGV[i + 3])
  redis.call('HSET', key(job, 'leases'), 'fetches:' .. later, ARGV[i + 4], 'origin:' .. later, origin)
  if redis.call('HGET', key(job), 'state') == 'cancelled' then cancel_chunk(job, later) end
end
finish_if_ended(job, now, ARGV[3])
return 1
