-- ARGV: job, chunk. Returns nothing where the chunk has ended or is held, else fresh or suspect.
local job, n = ARGV[1], ARGV[2]
if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 or lease_is_live(job, n, now_ms()) then return nil end
local attempts, origin = unpack(redis.call('HMGET', key(job, 'leases'), 'attempts:' .. n, 'origin:' .. n))
return (tonumber(attempts or '0') > 0 or origin) and 'suspect' or 'fresh'
