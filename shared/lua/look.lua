-- ARGV: job, chunk. Returns nothing where the chunk has ended or is held, else fresh or suspect.
local job, n = ARGV[1], ARGV[2]
if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 or lease_is_live(job, n, now_ms()) then return nil end
local attempts = redis.call('HGET', key(job, 'leases'), 'attempts:' .. n)
return tonumber(attempts or '0') > 0 and 'suspect' or 'fresh'
