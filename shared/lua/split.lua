-- ARGV: job, chunk, token, attempts that its pieces begin with, then of each piece items, packed body, uploads.
-- Whoever holds the chunk puts its pieces in its place. Returns split, lost where it holds it no longer, or whole: a
-- service was away too often, so no item of it is to blame and there is nothing to search for.
local job, n, leases, now = ARGV[1], ARGV[2], key(ARGV[1], 'leases'), now_ms()
if redis.call('HGET', leases, 'token:' .. n) ~= ARGV[3] then return 'lost' end
local outages = redis.call('HGET', leases, 'outages:' .. n) or '0'
if tonumber(outages) > MOST_OUTAGES then return 'whole' end
local fetches = redis.call('HGET', leases, 'fetches:' .. n) or '0'
local origin = redis.call('HGET', leases, 'origin:' .. n) or n
local bytes = redis.call('HGET', leases, 'bytes:' .. n) or '0'
for i = 5, #ARGV, 3 do
  local piece = add_chunk(job, ARGV[i], ARGV[i + 1], ARGV[i + 2], AGAIN, now)
  redis.call('HSET', leases, 'attempts:' .. piece, ARGV[4], 'origin:' .. piece, origin, 'fetches:' .. piece, fetches,
    'outages:' .. piece, outages)
  if i == 5 then park(job, piece, bytes) end -- all of it is put down to one piece
end
forget_chunk(job, n)
return 'split'
