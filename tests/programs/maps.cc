// std::map, strings, shared pointers and exceptions, in eight threads that hand maps to each
// other; every thread's result depends on its seed only.
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

class Random {
public:
	explicit Random(std::uint32_t seed) : seed_(seed) {}
	std::uint32_t below(std::uint32_t n)
	{
		seed_ = seed_ * 1664525 + 1013904223;
		return (seed_ >> 8) % n;
	}

private:
	std::uint32_t seed_;
};

struct Missing : std::runtime_error {
	Missing(const std::string &key, std::shared_ptr<std::string> held)
		: std::runtime_error("missing " + key), payload(std::move(held)) {}
	std::shared_ptr<std::string> payload;
};

using Map = std::map<std::string, std::vector<std::string>>;

// A key that throws when it is copied at the wrong moment.
struct Fragile {
	static thread_local int copies_left;
	std::string name;
	explicit Fragile(std::string n) : name(std::move(n)) {}
	Fragile(const Fragile &other) : name(other.name)
	{
		if (copies_left-- == 0)
			throw std::logic_error("copy of " + name);
	}
	bool operator<(const Fragile &other) const { return name < other.name; }
};
thread_local int Fragile::copies_left = -1;

const std::vector<std::string> &look(const Map &map, const std::string &key, int depth)
{
	const std::string here = key + std::string(static_cast<std::size_t>(depth), '.');
	if (depth > 0)
		return look(map, key, depth - 1);
	auto found = map.find(key);
	if (found == map.end())
		throw Missing(key, std::make_shared<std::string>(here + "!"));
	return found->second;
}

struct alignas(128) Wide {
	double numbers[16];
};

std::mutex exchange_mutex;
std::list<Map> exchange;
std::atomic<long> exchanged;

std::uint64_t work(std::uint32_t seed)
{
	Random random(seed);
	Map map;
	std::uint64_t sum = 0;

	for (int step = 0; step < 30000; step++) {
		std::string key = "key number " + std::to_string(random.below(2000));
		switch (random.below(6)) {
		case 0:
			map.erase(key);
			break;
		case 1:
		case 2:
			map[key].push_back(std::string(random.below(300), char('a' + step % 26)));
			break;
		case 3:
			try {
				for (const auto &text : look(map, key, int(random.below(8))))
					sum += text.size();
			} catch (const Missing &missing) {
				sum += missing.payload->size() + std::string(missing.what()).size();
			}
			break;
		case 4: {
			std::set<Fragile> set;
			Fragile::copies_left = int(random.below(20));
			try {
				for (std::uint32_t i = 0; i < 12; i++)
					set.insert(Fragile(key + std::to_string(i)));
			} catch (const std::logic_error &error) {
				sum += set.size() + std::string(error.what()).size();
			}
			Fragile::copies_left = -1;
			break;
		}
		default: {
			std::vector<std::unique_ptr<Wide>> wides;
			for (std::uint32_t i = 0; i < 4; i++) {
				wides.push_back(std::make_unique<Wide>());
				wides.back()->numbers[15] = double(i);
				if (reinterpret_cast<std::uintptr_t>(wides.back().get()) % 128)
					throw std::bad_alloc();
			}
			sum += std::uint64_t(wides[3]->numbers[15]);
			break;
		}
		}
		if (step % 3000 == 0) {
			// Given away: freed in whichever thread takes it.
			std::lock_guard<std::mutex> lock(exchange_mutex);
			exchange.push_back(map);
			exchanged++;
			if (exchange.size() > 4)
				exchange.pop_front();
		}
	}
	for (const auto &[key, texts] : map)
		for (const auto &text : texts)
			sum = sum * 31 + std::hash<std::string>()(text + key);
	return sum;
}

template <int N> struct Chain {
	static void fall(std::deque<std::string> &seen)
	{
		std::string guard(static_cast<std::size_t>(N) * 10, 'x');
		try {
			Chain<N - 1>::fall(seen);
		} catch (const std::exception &error) {
			seen.push_back(guard + error.what());
			std::throw_with_nested(std::runtime_error("level " + std::to_string(N)));
		}
	}
};
template <> struct Chain<0> {
	static void fall(std::deque<std::string> &) { throw std::out_of_range("the end"); }
};

// As a call: a compiler may leave out a new expression whose result is deleted at once.
[[gnu::noinline]] void take_and_return(std::size_t bytes)
{
	::operator delete(::operator new(bytes));
}

} // namespace

int main()
{
	std::vector<std::future<std::uint64_t>> results;
	for (std::uint32_t i = 0; i < 8; i++)
		results.push_back(std::async(std::launch::async, work, i));
	for (auto &result : results)
		std::cout << result.get() << "\n";
	std::cout << exchanged << " maps exchanged\n";

	std::deque<std::string> seen;
	for (int i = 0; i < 500; i++) {
		try {
			Chain<20>::fall(seen);
		} catch (const std::runtime_error &error) {
			seen.emplace_back(error.what());
		}
	}
	std::cout << seen.size() << " exceptions, the last " << seen.back() << "\n";

	// No such amount exists, and that has to be said in the language's own way.
	volatile std::size_t huge = std::size_t(1) << 62;
	try {
		take_and_return(huge);
		std::cout << "?\n";
	} catch (const std::bad_alloc &) {
		std::cout << "bad_alloc\n";
	}
	std::cout << (new (std::nothrow) char[huge] == nullptr) << "\n";
	try {
		std::vector<int>().reserve(huge);
	} catch (const std::length_error &) {
		std::cout << "length_error\n";
	}
	int handled = 0;
	static int *calls = &handled;
	std::set_new_handler([] {
		if (++*calls == 3)
			throw std::bad_alloc();
	});
	try {
		take_and_return(huge);
	} catch (const std::bad_alloc &) {
		std::cout << handled << " calls of the new handler\n";
	}
	return 0;
}
