-- ARGV: job, token, ttl, why not all that was absent is removed ('' where it is). The job is done.
-- A worker that dies counts what goes before it has gone, and the next one counts it again.
local job = ARGV[1]
if holder_of(job, 'syncs') ~= ARGV[2] or redis.call('HGET', key(job), 'state') == 'cancelled' then return 0 end
redis.call('ZREM', SYNCS, job)
redis.call('HSET', key(job), 'removed', math.min(number_of(job, 'gone'), number_of(job, 'absent')))
if ARGV[4] ~= '' then redis.call('HSET', key(job), 'sync_refused', ARGV[4]) end
finish_if_ended(job, now_ms(), ARGV[3])
return 1
