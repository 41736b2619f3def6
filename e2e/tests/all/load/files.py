# Writes a file after the other, with its hash in its name, and says so when each is durable, or that it was refused. At its
# start it says what it found.
import hashlib
import os
import time

print('opening', flush=True)
check, found = 'ok', set()
for name in os.listdir('/srv'):
    if '.' not in name:
        continue
    number, digest = name.split('.')
    with open('/srv/' + name, 'rb') as file:
        if hashlib.sha256(file.read()).hexdigest() != digest:
            check = 'damaged-' + number
    found.add(int(number))
last = max(found, default=0)
print('found', check, last, len(found), flush=True)

while True:
    content = os.urandom(256 << 10)
    try:
        with open('/srv/new', 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename('/srv/new', f'/srv/{last + 1}.{hashlib.sha256(content).hexdigest()}')
        folder = os.open('/srv', os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        print('refused', error, flush=True)
        time.sleep(1)
        continue
    last += 1
    print('committed', last, flush=True)
    # The disk holds some two hundred of them.
    time.sleep(0.2 if last < 100 else 2)
