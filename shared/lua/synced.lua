-- ARGV: job, token, ttl, why nothing was removed ('' where what was absent is), how many were spared. The job is done.
local job = ARGV[1]
if holder_of(job, 'syncs') ~= ARGV[2] or redis.call('HGET', key(job), 'state') == 'cancelled' then return 0 end
redis.call('ZREM', SYNCS, job)
if ARGV[4] == '' then
  redis.call('HSET', key(job), 'removed', number_of(job, 'absent') - ARGV[5])
else
  redis.call('HSET', key(job), 'removed', 0, 'sync_refused', ARGV[4])
end
finish_if_ended(job, now_ms(), ARGV[3])
return 1
