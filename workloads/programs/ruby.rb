# Strings, hashes and objects come and go over several collections; prints checksums.
Node = Struct.new(:key, :left, :right, :data)

def insert(node, key, data)
  return Node.new(key, nil, nil, data) unless node
  if key < node.key
    node.left = insert(node.left, key, data)
  elsif key > node.key
    node.right = insert(node.right, key, data)
  else
    node.data = data
  end
  node
end

seed = 1
rnd = ->(n) { seed = (seed * 1103515245 + 12345) & 0x7fffffff; (seed >> 8) % n }
sum = 0
5.times do |round|
  strings = Array.new(25_000) { |i| "#{round}:#{i}:" + "x" * rnd.(200) }
  counts = Hash.new(0)
  strings.each { |s| counts[s.length] += 1 }
  tree = nil
  4_000.times { |i| tree = insert(tree, rnd.(1_000_000), strings[i]) }
  sum += counts.keys.sort.inject(0) { |a, k| (a * 31 + k * counts[k]) & 0xffffffff }
  joined = strings.sort_by { |s| [-s.length, s] }.first(2000).join(",")
  sum = (sum * 33 + joined.bytes.sum) & 0xffffffff
  buffer = +""
  strings.each { |s| buffer << s.upcase.gsub("X", "yz") }
  sum = (sum + buffer.length) & 0xffffffff
end
puts sum
GC.start
$stdout.flush
sleep(ENV.fetch("WORKLOADS_IDLE_MS", "0").to_i / 1000.0)
