-- ARGV: job, chunk, token, lease ms, most attempts, ttl.
-- Returns {verdict, collection, packed body, attempt}; verdict: run, exhausted (under the lease too), ended, busy.
local job, n, token, now = ARGV[1], ARGV[2], ARGV[3], now_ms()
local body = redis.call('HGET', key(job, 'chunks'), n)
if not body then
  redis.call('ZREM', DUE, job .. '/' .. n)
  return {'ended'}
end
if lease_is_live(job, n, now) then return {'busy'} end
if redis.call('HGET', key(job), 'state') == 'cancelled' then
  cancel_chunk(job, n)
  finish_if_ended(job, now, ARGV[6])
  return {'ended'}
end
local attempt = redis.call('HINCRBY', key(job, 'leases'), 'attempts:' .. n, 1)
redis.call('HSET', key(job, 'leases'), 'token:' .. n, token, 'until:' .. n, now + ARGV[4])
redis.call('ZADD', DUE, now + ARGV[4], job .. '/' .. n)
redis.call('HSETNX', key(job), 'started_at', now)
if redis.call('HGET', key(job), 'state') == 'queued' then redis.call('HSET', key(job), 'state', 'running') end
local colon = string.find(body, ':', 1, true)
local verdict = attempt > tonumber(ARGV[5]) and 'exhausted' or 'run'
return {verdict, redis.call('HGET', key(job), 'collection'), string.sub(body, colon + 1), attempt}
