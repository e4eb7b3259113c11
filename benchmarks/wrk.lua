-- wrk -s wrk.lua URL -- BODY_FILE [name=value ...]   posts the file's bytes; prints one line of JSON at the end.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  file:close()
  wrk.headers["content-type"] = "application/json"
  for i = 2, #args do
    local name, value = args[i]:match("^([^=]+)=(.*)$")
    wrk.headers[name] = value
  end
  prepared = wrk.format()
end

function request() return prepared end

function done(summary, latency)
  local e = summary.errors
  print(string.format('{"requests":%d,"seconds":%.4f,"p50_us":%d,"p99_us":%d,"bad":%d}',
    summary.requests - e.status, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
