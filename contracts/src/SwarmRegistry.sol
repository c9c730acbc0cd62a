// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title SwarmRegistry
/// @notice One swarm: the recipe it trains on, the clock of its rounds, and the peers that proved their key.
/// @dev A peer is a secp256k1 key. That key is its libp2p identity and this contract's account at once, so a transaction
/// sent by the account of a public key proves possession of the key and no further signature is needed. Nobody owns the
/// contract, nothing in it can be changed once set, and a registration is never undone.
contract SwarmRegistry {
    /// @notice A registered public key in compressed form: the byte `prefix` (2 or 3) followed by `x`.
    struct PeerKey {
        bytes32 x;
        uint8 prefix;
    }

    /// @dev One storage slot per peer; the x coordinate is under the account in `_keys`.
    struct Peer {
        address account;
        uint8 prefix;
    }

    /// @notice The recipe hash given to the constructor is zero.
    error RecipeHashIsZero();

    /// @notice The round length given to the constructor is zero.
    error RoundSecondsIsZero();

    /// @notice The point (x, y) is not on secp256k1, or its coordinates are not reduced.
    error PointNotOnCurve(bytes32 x, bytes32 y);

    /// @notice The transaction was sent by `sender` and not by `account`, the account of the key.
    error SenderIsNotKey(address sender, address account);

    /// @notice The key of `account` is registered already.
    error AlreadyRegistered(address account);

    /// @notice The key (x, y) proved that it is `account` and is a peer of this swarm from now on.
    event PeerRegistered(address indexed account, bytes32 x, bytes32 y);

    /// @dev The field prime of secp256k1.
    uint256 private constant FIELD_PRIME = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;

    /// @dev The largest page of `peers`, so that no reader can be made to run out of gas.
    uint256 private constant MAX_PAGE = 256;

    bytes32 private immutable _recipeHash;
    uint64 private immutable _genesis;
    uint32 private immutable _roundSeconds;

    /// @dev In the order of registration.
    Peer[] private _peers;

    /// @dev The x coordinate of the key of an account; zero where it is not registered, as no point of the curve has x = 0.
    mapping(address account => bytes32 x) private _keys;

    /// @param recipeHash_ The hash of the recipe; not zero.
    /// @param genesis_ The start of round 0, in unix seconds.
    /// @param roundSeconds_ The length of a round, in seconds; not zero.
    constructor(bytes32 recipeHash_, uint64 genesis_, uint32 roundSeconds_) {
        if (recipeHash_ == bytes32(0)) revert RecipeHashIsZero();
        if (roundSeconds_ == 0) revert RoundSecondsIsZero();
        _recipeHash = recipeHash_;
        _genesis = genesis_;
        _roundSeconds = roundSeconds_;
    }

    /// @notice Registers the sender as a peer. The transaction's own signature proves possession of the key.
    /// @param x The x coordinate of the sender's public key.
    /// @param y The y coordinate of the sender's public key.
    function register(bytes32 x, bytes32 y) external {
        if (!_isOnCurve(uint256(x), uint256(y))) revert PointNotOnCurve(x, y);
        address account = address(uint160(uint256(keccak256(abi.encodePacked(x, y)))));
        if (account != msg.sender) revert SenderIsNotKey(msg.sender, account);
        if (_keys[account] != bytes32(0)) revert AlreadyRegistered(account);

        _keys[account] = x;
        _peers.push(Peer({account: account, prefix: 2 + uint8(uint256(y) & 1)}));
        emit PeerRegistered(account, x, y);
    }

    /// @notice The name and version of this contract, by which a client tells it from a foreign one.
    function version() external pure returns (string memory) {
        return "rl-swarm registry 1";
    }

    /// @notice The hash of the swarm's recipe.
    function recipeHash() external view returns (bytes32) {
        return _recipeHash;
    }

    /// @notice The start of round 0, in unix seconds.
    function genesis() external view returns (uint64) {
        return _genesis;
    }

    /// @notice The length of a round, in seconds.
    function roundSeconds() external view returns (uint32) {
        return _roundSeconds;
    }

    /// @notice Whether the key of `account` is registered.
    function isRegistered(address account) external view returns (bool) {
        return _keys[account] != bytes32(0);
    }

    /// @notice How many peers are registered.
    function peerCount() external view returns (uint256) {
        return _peers.length;
    }

    /// @notice A page of the registered keys, in the order of registration.
    /// @param offset The number of peers to skip. Past the end the page is empty.
    /// @param limit The most keys to return. A page never has more than 256.
    function peers(uint256 offset, uint256 limit) external view returns (PeerKey[] memory page) {
        uint256 count = _peers.length;
        uint256 left = offset < count ? count - offset : 0;
        if (limit > MAX_PAGE) limit = MAX_PAGE;
        if (limit > left) limit = left;
        page = new PeerKey[](limit);
        for (uint256 i = 0; i < limit; ++i) {
            Peer storage peer = _peers[offset + i];
            page[i] = PeerKey({x: _keys[peer.account], prefix: peer.prefix});
        }
    }

    /// @dev Whether y^2 = x^3 + 7 modulo the field prime, both coordinates being reduced.
    function _isOnCurve(uint256 x, uint256 y) private pure returns (bool) {
        if (x >= FIELD_PRIME || y >= FIELD_PRIME) return false;
        uint256 cube = mulmod(mulmod(x, x, FIELD_PRIME), x, FIELD_PRIME);
        return mulmod(y, y, FIELD_PRIME) == addmod(cube, 7, FIELD_PRIME);
    }
}
