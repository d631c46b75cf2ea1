from concurrent.futures import ThreadPoolExecutor

import pytest

sa = pytest.importorskip("sqlalchemy")
argon2 = pytest.importorskip("argon2")

from corrigible.errors import DataError, InvalidParameterError, UnknownNameError
from corrigible.library import _accounts as accounts
from corrigible.library._database import Database
from corrigible.library._schema import users

ADA = "correct horse battery"


@pytest.fixture
def quick(monkeypatch):
    """Hashes that cost little."""
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "_hasher", lambda: hasher)
    accounts._nobody.cache_clear()
    yield
    accounts._nobody.cache_clear()


def test_hashes_are_strong():
    used = argon2.extract_parameters(accounts._hasher().hash("x"))
    assert used.type is argon2.Type.ID
    assert used.memory_cost >= 19 * 1024  # KiB: the least that OWASP names
    assert used.time_cost >= 2


@pytest.fixture
def database(library_url):
    found = Database(library_url)
    yield found
    found.close()


def test_users(database, quick):
    with database.write() as connection:
        ada = accounts.add_user(connection, "ada", ADA)
        row = accounts.find_user(connection, "ada")
        assert row.password.startswith("$argon2id$")
        assert accounts.check_password(row.password, ADA)
        assert not accounts.check_password(row.password, ADA + "x")
        assert not accounts.check_password(None, ADA)
        assert not accounts.check_password("no hash", "x")
        for name in ("Ada", "", "local", "a" * 41, "a b", "-a", "ä"):
            with pytest.raises(InvalidParameterError, match="name must"):
                accounts.add_user(connection, name, ADA)
        for password in ("short", "x" * 201, "aaaaaaaaaaaaaaa", "i am bob bob bob"):
            with pytest.raises(InvalidParameterError, match="password must"):
                accounts.add_user(connection, "bob", password)
        with pytest.raises(DataError, match="already"):
            accounts.add_user(connection, "ada", ADA)
        with pytest.raises(InvalidParameterError, match="role"):
            accounts.set_role(connection, ada, "king")
        with pytest.raises(UnknownNameError, match="no user"):
            accounts.find_user(connection, "bob")


def test_many_guesses_at_once(database):
    """Each is counted before its password is looked at: no more get through than one after the other."""

    def guess(_):
        try:
            with database.write() as connection:
                accounts.attempt(connection, "ada", "192.0.2.1")
        except accounts.TooManyAttemptsError:
            return 0
        return 1

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(guess, range(40))) == accounts.LIMITS["both"]


def test_many_names_from_one_address_and_one_name_from_many(database):
    def tries(pairs):
        n = 0
        for name, address in pairs:
            try:
                with database.write() as connection:
                    accounts.attempt(connection, name, address)
                n += 1
            except accounts.TooManyAttemptsError:
                pass
        return n

    assert tries((f"user{i}", "192.0.2.1") for i in range(30)) == accounts.LIMITS["address"]
    assert tries(("ada", f"198.51.100.{i}") for i in range(60)) == accounts.LIMITS["name"]


def test_an_old_hash_is_renewed(database, quick):
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash(ADA)
    with database.write() as connection:
        ada = accounts.add_user(connection, "ada", ADA)
        connection.execute(sa.update(users).values(password=weak))
        accounts.succeeded(connection, ada, "ada", "192.0.2.1", ADA)
        new = accounts.find_user(connection, "ada").password
    assert new != weak
    assert accounts.check_password(new, ADA)
