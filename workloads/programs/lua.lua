-- Tables and strings come and go under the collector; prints checksums.
local seed = 1
local function rnd(n)
  seed = (seed * 1103515245 + 12345) & 0x7fffffff
  return (seed >> 8) % n
end

local sum = 0
for round = 1, 5 do
  local items, by_length, tree = {}, {}, nil
  for i = 1, 40000 do
    local s = round .. ":" .. i .. string.rep("x", rnd(120))
    items[i] = { key = rnd(1000000), name = s, near = items[i - 1] and items[i - 1].key }
    local list = by_length[#s] or {}
    list[#list + 1] = s
    by_length[#s] = list
  end
  table.sort(items, function(a, b)
    if a.key ~= b.key then return a.key < b.key end
    return a.name < b.name
  end)
  local parts = {}
  for i = 1, #items, 7 do
    parts[#parts + 1] = items[i].name:upper():gsub("X+", "y")
    sum = (sum * 31 + items[i].key) % 4294967291
  end
  local joined = table.concat(parts, ",")
  sum = (sum + #joined) % 4294967291
  for length, list in pairs(by_length) do
    sum = (sum + length * #list) % 4294967291
  end
end
print(sum)
collectgarbage()
io.stdout:flush()
