-- ARGV: job, chunk, token, lease ms, ttl.
-- Returns {collection, packed body, attempt, fetches, origin} under the lease, or nothing where the chunk has ended or
-- is held.
local job, n, token, now = ARGV[1], ARGV[2], ARGV[3], now_ms()
local leases = key(job, 'leases')
local body = redis.call('HGET', key(job, 'chunks'), n)
if not body then
  redis.call('ZREM', DUE, job .. '/' .. n)
  redis.call('ZREM', AGAIN, job .. '/' .. n)
  return nil
end
if lease_is_live(job, n, now) then return nil end
if redis.call('HGET', key(job), 'state') == 'cancelled' then
  cancel_chunk(job, n)
  finish_if_ended(job, now, ARGV[5])
  return nil
end
local attempt = redis.call('HINCRBY', leases, 'attempts:' .. n, 1)
redis.call('HSET', leases, 'token:' .. n, token, 'until:' .. n, now + ARGV[4])
redis.call('ZREM', DUE, job .. '/' .. n)
redis.call('ZADD', AGAIN, now + ARGV[4], job .. '/' .. n)
redis.call('HSETNX', key(job), 'started_at', now)
if redis.call('HGET', key(job), 'state') == 'queued' then redis.call('HSET', key(job), 'state', 'running') end
local _, packed = parts_of(body)
local fetches = redis.call('HGET', leases, 'fetches:' .. n) or '0'
local origin = redis.call('HGET', leases, 'origin:' .. n) or n
return {redis.call('HGET', key(job), 'collection'), packed, attempt, fetches, origin}
