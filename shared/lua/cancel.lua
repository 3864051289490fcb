-- ARGV: job, ttl, word. What no worker holds ends now; what one holds ends with its commit or its lease.
-- Returns 1, or 0 where the job had ended.
local job, now = ARGV[1], now_ms()
local state = redis.call('HGET', key(job), 'state')
if state == 'done' or state == 'cancelled' then return 0 end
redis.call('ZREM', ACCEPTING, job)
redis.call('ZREM', SYNCS, job)
-- Who reads it hears of it; else a worker takes it to clear up.
if redis.call('HEXISTS', key(job), 'source') == 1 then redis.call('ZADD', IMPORTS, 'NX', now, job) end
redis.call('HSET', key(job), 'state', 'cancelled', 'total', number_of(job, 'accepted'))
if ARGV[3] ~= '' then redis.call('HSET', key(job), 'last_error', ARGV[3]) end
for _, n in ipairs(redis.call('HKEYS', key(job, 'chunks'))) do
  if lease_is_live(job, n, now) then
    redis.call('ZADD', AGAIN, 0, job .. '/' .. n) -- first in line for `overdue`
  else
    cancel_chunk(job, n)
  end
end
finish_if_ended(job, now, ARGV[2])
return 1
