# about: openssl speed, certificates, ciphers and digests
# needs: openssl
# limit: 60
. "$PB_HERE/common.bash"

export OPENSSL_CONF=/dev/null
proved openssl openssl version | grep -o '^OpenSSL [0-9]*'

# Its numbers are not compared, but there must be one for each of these.
under openssl speed -mr -seconds 1 -bytes 1024 -multi 2 -evp aes-256-gcm >speed.1 2>speed.err
under openssl speed -mr -seconds 1 rsa2048 ecdsap256 >speed.2 2>>speed.err
cat speed.? | cut -d: -f1,2,3 | grep -aE '^\+F[0-9]*:' | sed 's/:[0-9.]*$//' | sort -u

perl -e 'print "line $_ of the plain text\n" for 1 .. 200000' >plain
for cipher in aes-256-cbc chacha20 aria-128-ctr; do
	under openssl enc "-$cipher" -pbkdf2 -S 0102030405060708 -pass pass:x <plain >"$cipher"
	under openssl enc "-$cipher" -pbkdf2 -S 0102030405060708 -pass pass:x -d <"$cipher" |
		cmp - plain
	checksum "$cipher"
done
for digest in sha256 sha3-512 blake2b512; do
	under openssl dgst "-$digest" plain
done

under openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 \
	-subj '/CN=authority' 2>/dev/null
under openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key
under openssl req -new -key key -subj '/CN=somebody' -out request
under openssl x509 -req -in request -CA ca.pem -CAkey ca.key -days 20 -out pem 2>/dev/null
under openssl verify -CAfile ca.pem pem
under openssl dgst -sha256 -sign key -out signature plain
under openssl dgst -sha256 -verify <(under openssl pkey -in key -pubout) -signature signature plain
under openssl cms -encrypt -binary -in plain -outform DER pem >cms
under openssl cms -decrypt -inform DER -in cms -inkey key | cmp - plain
under openssl prime -generate -bits 512 >/dev/null
