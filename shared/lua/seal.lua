-- ARGV: job, token of who reads it ('' where its body is read), ttl. All is read: what was accepted is the total.
local job, now = ARGV[1], now_ms()
if redis.call('HGET', key(job), 'state') ~= 'accepting' or holder_of(job, 'imports') ~= ARGV[2] then return 0 end
redis.call('ZREM', ACCEPTING, job)
local started = redis.call('HEXISTS', key(job), 'started_at') == 1
redis.call('HSET', key(job), 'state', started and 'running' or 'queued', 'total', number_of(job, 'accepted'))
finish_if_ended(job, now, ARGV[3])
return 1
