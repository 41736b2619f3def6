# Writes each number to the one volume, and then to the other.
import os
def put(path, number):
    with open(path + '.new', 'w') as file:
        file.write(str(number))
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + '.new', path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
number = 0
while True:
    number += 1
    put('/first/number', number)
    put('/second/number', number)
    print('committed', number, flush=True)
