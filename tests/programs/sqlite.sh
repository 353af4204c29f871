# about: sqlite3 on a database of a million rows in memory
# needs: sqlite3
# limit: 90
. "$PB_HERE/common.bash"

proved sqlite3 sqlite3 :memory: 'select 6 * 7'
under sqlite3 -batch -bail :memory: <<'END'
pragma temp_store = memory;
create table t(id integer primary key, k integer, v text, b blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
	insert into t select i, (i * 7919) % 99991, printf('value %d of %d', i % 1000, i),
		case when i % 10 = 0 then zeroblob(i % 400) end from n;
select count(*), sum(k), sum(length(v)), sum(length(b)) from t;
create index by_k on t(k);
create index by_v on t(v) where id % 5 = 0;
select k, count(*), min(id), group_concat(id) from t where k between 100 and 105 group by k;
select substr(v, 1, 9) as head, count(*) from t group by head order by 2 desc, 1 limit 5;
select count(*) from t a join t b on b.id = a.k where a.id % 3 = 0;
begin;
update t set v = v || ' changed' where id % 4 = 0;
delete from t where k % 2 = 1;
savepoint s;
delete from t where id > 500000;
rollback to s;
commit;
select count(*), sum(k), sum(length(v)) from t;
create virtual table words using fts5(v);
insert into words select v from t where id % 20 = 0;
select count(*) from words where words match 'changed';
select count(*), sum(json_extract(json_object('a', id, 'b', json_array(k, v)), '$.b[0]')) from t;
vacuum;
pragma integrity_check;
.shell cat /proc/$PPID/maps >maps.sqlite3
END
maps_have_it maps.sqlite3
