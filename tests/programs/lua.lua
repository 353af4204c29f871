-- Tables, strings, closures and coroutines by the hundred thousand, with collections between.
local seed = 42
local function random(n)
	seed = (seed * 1664525 + 1013904223) % 4294967296
	return (seed >> 8) % n
end

local function checksum(text, sum)
	for i = 1, #text do
		sum = (sum * 31 + text:byte(i)) % 4294967296
	end
	return sum
end

local live, sum = {}, 0
for i = 1, 400000 do
	local slot = random(20000) + 1
	local kind = random(4)
	if kind == 0 then
		live[slot] = string.rep(string.char(97 + i % 26), random(200))
	elseif kind == 1 then
		local t = {}
		for j = 1, random(30) do t[j] = j * i end
		t.name = 'table ' .. i
		live[slot] = t
	elseif kind == 2 then
		live[slot] = coroutine.wrap(function() while true do coroutine.yield(i) end end)
	else
		live[slot] = nil
	end
	if i % 100000 == 0 then collectgarbage() end
end
for i = 1, 20000 do
	local value = live[i]
	if type(value) == 'string' then
		sum = checksum(value, sum)
	elseif type(value) == 'table' then
		sum = checksum(value.name, sum)
		for j = 1, #value do sum = (sum + value[j]) % 4294967296 end
	elseif value then
		sum = (sum + value()) % 4294967296
	end
end
print('checksum', sum)

local parts = {}
for i = 1, 100000 do parts[#parts + 1] = tostring(i) end
local text = table.concat(parts, ' ')
print('words', select(2, text:gsub('%d+', '')), #text:gsub('1', 'one'))
table.sort(parts)
print('sorted', parts[1], parts[50000], parts[100000])
live, parts, text = nil, nil, nil
collectgarbage()
print('collected', collectgarbage('count') < 5000)

local out = io.open('maps.lua', 'w')
for line in io.lines('/proc/self/maps') do out:write(line, '\n') end
out:close()
