-- wrk -s wrk_paced.lua URL -- BODY_FILE THINK_MS   as wrk.lua, but each connection waits so long before it asks again,
-- answers and refusals are counted apart, and each quantile comes with its order-statistic interval (95 %).
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  file:close()
  wrk.headers["content-type"] = "application/json"
  think = tonumber(args[2]) or 0
  prepared = wrk.format()
end

function request() return prepared end

function delay() return think end

function done(summary, latency)
  local n, e = summary.requests, summary.errors
  local function around(q)  -- the normal approximation of the binomial: n is in the hundreds
    local half = 1.96 * math.sqrt(q * (1 - q) / math.max(n, 1))
    local low, high = math.max(q - half, 0), math.min(q + half, 1)
    return string.format("[%.3f,%.3f,%.3f]", latency:percentile(100 * q) / 1e3, latency:percentile(100 * low) / 1e3,
      latency:percentile(math.min(100 * high, 99.999)) / 1e3)
  end
  print(string.format('{"answers":%d,"refused":%d,"seconds":%.4f,"p50":%s,"p99":%s,"bad":%d}', n - e.status, e.status,
    summary.duration / 1e6, around(0.5), around(0.99), e.connect + e.read + e.write + e.timeout))
end
