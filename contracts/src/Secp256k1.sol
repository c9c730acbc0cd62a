// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Secp256k1
/// @notice From a public key to its account and to its libp2p form.
library Secp256k1 {
    /// @notice The point (x, y) is not on secp256k1, or its coordinates are not reduced.
    error PointNotOnCurve(bytes32 x, bytes32 y);

    /// @dev The field prime of secp256k1.
    uint256 private constant FIELD_PRIME = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;

    /// @dev The account of the key (x, y), which must be a point of the curve.
    function accountOf(bytes32 x, bytes32 y) internal pure returns (address) {
        if (!_isOnCurve(uint256(x), uint256(y))) revert PointNotOnCurve(x, y);
        return address(uint160(uint256(keccak256(abi.encodePacked(x, y)))));
    }

    /// @dev Whether y is odd: with x, all there is to know of the point.
    function isOdd(bytes32 y) internal pure returns (bool) {
        return uint256(y) & 1 == 1;
    }

    /// @dev The first byte of the compressed form, 2 or 3; x is the rest.
    function prefixOf(bool odd) internal pure returns (uint8) {
        return odd ? 3 : 2;
    }

    /// @dev Whether y^2 = x^3 + 7 modulo the field prime, both coordinates being reduced.
    function _isOnCurve(uint256 x, uint256 y) private pure returns (bool) {
        if (x >= FIELD_PRIME || y >= FIELD_PRIME) return false;
        uint256 cube = mulmod(mulmod(x, x, FIELD_PRIME), x, FIELD_PRIME);
        return mulmod(y, y, FIELD_PRIME) == addmod(cube, 7, FIELD_PRIME);
    }
}
