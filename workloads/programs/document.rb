# A JSON document is parsed, made into objects and dropped again; a tenth and an index stay.
# Says `peak` and waits for a line, says `idle` and waits for one more, says what it kept.
require 'io/wait'
require 'json'

Item = Struct.new(:id, :name, :text, :values)

def load_items(path)
  JSON.parse(File.read(path)).map do |record|
    Item.new(record['id'], record['name'], record['text'].dup, record['values'])
  end
end

items = load_items(ARGV[0])
kept = items.each_slice(10).map(&:first)
index = items.to_h { |item| [item.name, item.id] }
puts "peak #{items.length}"
$stdout.flush
$stdin.gets
items = nil
GC.start
puts 'idle'
$stdout.flush
trickle = Array.new(100) { |n| n.to_s * 3 } until $stdin.wait_readable(0.1)
puts "kept #{kept.length} #{kept.sum(&:id)} #{index.length}"
