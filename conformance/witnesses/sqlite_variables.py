"""How many host parameters SQLite takes in one statement, counted by trying; prints 250000 on Debian."""

import sqlite3

connection = sqlite3.connect(":memory:")
least, most = 1, 2**20
while least < most:
    middle = (least + most + 1) // 2
    try:
        connection.execute(f"SELECT ?{middle}", [0] * middle)
        least = middle
    except sqlite3.OperationalError:
        most = middle - 1
print(least)
