# A hundred threads of strings, arrays and hashes, while the collector runs often.
require 'digest'

class Random32
  def initialize(seed) = @seed = seed

  def below(n)
    @seed = (@seed * 1664525 + 1013904223) % 4294967296
    (@seed >> 8) % n
  end
end

queue = Thread::Queue.new
threads = 100.times.map do |id|
  Thread.new do
    random = Random32.new(id)
    live = {}
    3000.times do |i|
      key = "key#{random.below(300)}"
      case random.below(4)
      when 0 then live.delete(key)
      when 1 then live[key] = Array.new(random.below(50)) { |j| "#{i}.#{j}" }
      else live[key] = "thread #{id} step #{i} " * random.below(40)
      end
      Thread.pass if i % 100 == 0
    end
    queue << live.size
    Digest::SHA256.hexdigest(live.sort.map { |k, v| "#{k}=#{v};" }.join)
  end
end
collector = Thread.new { 30.times { GC.start; Thread.pass } }
sums = threads.map(&:value)
collector.join
puts "#{sums.size} threads, #{queue.size} results"
puts Digest::SHA256.hexdigest(sums.join)
GC.compact if GC.respond_to?(:compact)
puts sums.map { |sum| sum.sub(/[a-f]+/) { |s| s.upcase } }.sort.first

pid = fork { exit!(sums.size == 100 && GC.start.nil? ? 5 : 6) }
Process.wait(pid)
puts "child #{$?.exitstatus.inspect}"

File.write('maps.ruby', File.read('/proc/self/maps'))
